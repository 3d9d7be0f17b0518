"""`python -m engine.worker RUN_DIR`: carries one run through the stages."""
