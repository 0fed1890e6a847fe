"""funnelcast: probabilities along a funnel."""
