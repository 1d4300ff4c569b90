"""What must survive a crash: whole files, hash-chained journals and records. The only place that knows SQLite."""
