"""Is a world model of use to a robot, beyond its looks?

Its judgement of policies is compared with the simulator's (:mod:`.ranking`), and its plans are
carried out in the simulator (:mod:`.planning`). Both see the simulator and the world model as an
:class:`~.environment.Environment`, and judge either by its pictures alone (:mod:`.seeing`).
"""
