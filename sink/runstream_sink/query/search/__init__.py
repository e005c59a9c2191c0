"""MLflow's search grammar: texts to checked plans, and the cursors of their pages.  Pure."""
