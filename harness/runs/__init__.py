"""Making runs: free, in lockstep, continued, recorded, and in processes of their own."""
