"""What an operator looks at: metrics, health, logs."""
