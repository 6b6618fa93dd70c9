"""One of two processes that take steps until both agree to stop; prints after which step, and the code, as JSON.

A program of its own, because a process joins a job when JAX starts: python stop_together.py HOST:PORT NUMBER
"""

import json
import os
import signal
import sys

MOST_STEPS, SIGNALLED_IN = 30, 6


def main(address: str, number: int) -> None:
    import jax

    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(address, num_processes=2, process_id=number)

    from jaxstroke import sharding
    from jaxstroke.training.stop_request import StopRequest

    with StopRequest(sharding.make_mesh()) as stop:
        for step in range(1, MOST_STEPS + 1):
            if (step, number) == (SIGNALLED_IN, 1):
                os.kill(os.getpid(), signal.SIGTERM)
            code = stop.after_step()
            if code is not None:
                break
    print(json.dumps({"stopped_after": step, "code": code}))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
