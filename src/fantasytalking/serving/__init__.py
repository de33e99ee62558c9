"""The service: jobs that survive any crash, a worker a device, the REST API and the page."""
