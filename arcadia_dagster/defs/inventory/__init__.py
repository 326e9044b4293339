"""What exists: the assets that list it, their checks, jobs and schedules."""
