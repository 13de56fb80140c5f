"""What attackers try on the shop, one short module per way in; each with its positive control."""
