"""How good a mask is: overlap, surfaces, lesions, one scorecard of all of them, and statistics over studies.

Plain NumPy on masks of one study at a time; nothing here imports another room.
"""
