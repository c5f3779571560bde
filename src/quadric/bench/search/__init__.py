"""The search for hyper-parameters: the space, what a setting is judged on, the study, and its record."""
