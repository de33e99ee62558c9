"""Training as the paper describes it: flow matching in two stages, with the lip-tracing mask and condition dropout."""
