"""Training as the paper describes it: flow matching in two stages, the lip-tracing mask, dropout of conditions."""
