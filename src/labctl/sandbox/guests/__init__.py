"""What runs behind a guest of the emulated hypervisor.

A runtime starts, stops and deletes guests and answers for their guest agent (`runtime.GuestRuntime`). `appliance` gives guests
with a role real processes on a loopback address; guests without one get an agent that keeps files and nothing else. Knows
nothing of PVE.
"""
