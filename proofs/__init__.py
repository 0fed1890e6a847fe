"""The long proofs, one file each: what the library promises, held against kills, faults, simulators and real data."""
