"""PostgreSQL: connections, transactions, batches of statements, the read replica, the schema."""
