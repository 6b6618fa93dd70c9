"""What an experiment may have done to a study's images before they are normalised (`experiment.fields.Preparation`).

One file a step; each takes arrays and where they lie, and says in a line what it did.  SimpleITK is an extra (`prep`).
"""
