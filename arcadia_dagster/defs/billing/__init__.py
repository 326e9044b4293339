"""What was billed: balance, invoices and their lines; partitions, checks, schedules and the sensor that ingests new invoices."""
