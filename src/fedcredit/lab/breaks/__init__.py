"""Attacks and faults on a small real run, and what the defences made of them: ``fedcredit demo --break IDEA``.

    scene     the run: real nodes, a real coordinator, and everything that the lab may look into
    truth     what a member really sent, which no attacker may find out
    tampering what a dishonest carrier, coordinator or member puts in the place of a message
    story     what happened, what the logs say of it, and the checks that make the verdict
    replay, poison, snoop, split, drop, kill   one idea each: ``tell`` plays it and returns its story

No verdict is a constant: each check compares what was observed in this run, and a weakened path fails it.
"""
