"""Our own RabbitMQ node: its files and its process."""
