"""How the parts are joined into one hub: what ``configure(c)`` sets, and what is checked at start-up."""
