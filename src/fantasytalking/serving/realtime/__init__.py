"""Speech that is still being spoken: sessions over a WebSocket, each in a process that has the model loaded."""
