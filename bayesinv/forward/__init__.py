"""Lead fields: every solver is a function from head, sensors and sources to a `LeadField`."""
