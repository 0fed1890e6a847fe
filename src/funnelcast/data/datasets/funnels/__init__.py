"""Public funnels of real data: oulad, hotel, fbads and ml100k."""
