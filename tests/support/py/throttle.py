"""Lets a process run for a share of the time, as a CPU limit of a container does.   throttle.py PID PERCENT

It is stopped and goes on again, 10 times a second, until it is gone or this script is ended; then it goes on.
"""
import os
import signal
import sys
import time

PERIOD_S = 0.1


def main(pid, percent):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    runs = PERIOD_S * percent / 100
    try:
        while True:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(PERIOD_S - runs)
            os.kill(pid, signal.SIGCONT)
            time.sleep(runs)
    except ProcessLookupError:
        pass
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


main(int(sys.argv[1]), int(sys.argv[2]))
