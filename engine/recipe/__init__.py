"""What the person wants: schema, strict YAML, layers and rules. Light."""
