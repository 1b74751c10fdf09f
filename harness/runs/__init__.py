"""How training is driven and observed: free runs, lockstep runs, interventions, worker processes."""
