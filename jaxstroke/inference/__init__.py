"""From a study to a mask on the study's own grid: the predictor, and what is done to its masks afterwards."""
