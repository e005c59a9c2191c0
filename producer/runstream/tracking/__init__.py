"""What a program reads back: runs, experiments, histories and artifacts, over HTTP or straight from the store.

`records` is what sources give, `entities` what programs get, with MLflow's attribute names.  Nothing here is imported
before a program reads.
"""
