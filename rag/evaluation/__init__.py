"""questions with known answers -> figures of how well they are found and answered."""
