"""The only place that knows AMQP and RabbitMQ."""
