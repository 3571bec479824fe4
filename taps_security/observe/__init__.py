"""What happened, for people and programs: security reports and key log files."""
