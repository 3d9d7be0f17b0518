"""The verbs without a screen, one module per verb; imported when the verb is used."""
