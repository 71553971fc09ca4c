"""The health of the parts that sendtrace needs: probes, facts, and one judgement of them."""
