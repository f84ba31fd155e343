#!/usr/bin/env python3
"""Writes payments.csv and sensors.csv beside this file, or into the folder that is named: the same bytes each time. Needs nothing but Python."""

import csv
import math
import random
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
BEGIN = datetime(2026, 1, 5, tzinfo=timezone.utc)  # a Monday


def main():
    columns = ["payment", "at", "card", "amount", "country", "category", "hour", "minutes_since_last", "fraud"]
    write("payments.csv", columns, payments())
    columns = ["at", "machine", "rpm", "load", "current", "temperature", "pressure", "vibration", "fault"]
    write("sensors.csv", columns, sensors())


def write(name, header, rows):
    with open(FOLDER / name, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)


def when(seconds):
    return (BEGIN + timedelta(seconds=int(seconds))).strftime("%Y-%m-%dT%H:%M:%SZ")


# Payments. Each category: its share of ordinary payments, and the median and the spread of its amounts (in logarithms).
CATEGORIES = {
    "groceries": (0.34, 32, 0.6),
    "restaurant": (0.22, 28, 0.5),
    "fuel": (0.12, 55, 0.3),
    "online": (0.16, 40, 0.9),
    "electronics": (0.05, 180, 0.8),
    "travel": (0.05, 240, 0.7),
    "gift_cards": (0.06, 60, 0.9),
}
HOME = {"FR": 0.5, "DE": 0.3, "ES": 0.2}
ABROAD = ["CA", "JP", "US"]
PAYMENTS = 6_000
CARDS = 400
SECONDS_PER_PAYMENT = 210


def payments():
    """Ordinary payments follow the day. Fraud is of three kinds, each about 1.3 % of them:

    - stolen: a large purchase abroad. Amount, country and category add up: a linear model can learn it.
    - testing: a burst of tiny online payments within minutes. Tiny payments are ordinary, and so are quick ones: only both together are not.
    - cash_out: gift cards of 150 to 220 in the small hours. By day such amounts are ordinary, at night smaller and larger ones are: a band in two features.
    """
    rng = random.Random(20_260_105)
    homes = [pick(rng, HOME) for _ in range(CARDS)]
    generous = [math.exp(rng.gauss(0, 0.3)) for _ in range(CARDS)]
    planned = []  # (seconds, card, amount, country, category, fraud)
    for at in arrivals(rng, PAYMENTS * SECONDS_PER_PAYMENT):
        card = int(rng.random() * CARDS)
        kind = rng.random()
        if kind < 0.014:
            category = "electronics" if rng.random() < 0.6 else "travel"
            amount = 420 * math.exp(rng.gauss(0, 0.5))
            planned.append((at, card, amount, ABROAD[int(rng.random() * 3)], category, 1))
        elif kind < 0.0175:
            for _ in range(3 + int(rng.random() * 4)):
                planned.append((at, card, 0.5 + 2.5 * rng.random(), homes[card], "online", 1))
                at += 15 + 75 * rng.random()
        elif kind < 0.032:
            night = at - at % 86_400 + (0.5 + 4.5 * rng.random()) * 3_600
            planned.append((night, card, 150 + 70 * rng.random(), homes[card], "gift_cards", 1))
        else:
            ordinary(rng, planned, at, card, homes[card], generous[card])
    planned.sort()
    last = {}
    for number, (at, card, amount, country, category, fraud) in enumerate(planned[:PAYMENTS]):
        since = round((at - last[card]) / 60, 1) if card in last else ""
        last[card] = at
        hour = round(at % 86_400 / 3_600, 2)
        yield [f"p{number:05}", when(at), f"c{card:03}", f"{amount:.2f}", country, category, hour, since, fraud]


def ordinary(rng, planned, at, card, home, generous):
    country = home if rng.random() > 0.05 else ABROAD[int(rng.random() * 3)]
    category = pick(rng, {name: share for name, (share, _, _) in CATEGORIES.items()})
    _, median, spread = CATEGORIES[category]
    if category == "gift_cards" and rng.random() < 0.35:
        # People who cannot sleep buy gift cards too: for less than fraud does, or for more.
        at = at - at % 86_400 + 5 * 3_600 * rng.random()
        amount = 60 * math.exp(rng.gauss(0, 0.4)) if rng.random() < 0.6 else 300 + 100 * rng.random()
    elif category == "online" and rng.random() < 0.25:
        amount = 0.9 + 3 * rng.random()  # an app or a song
    else:
        amount = generous * median * math.exp(rng.gauss(0, spread))
    planned.append((at, card, amount, country, category, 0))
    if rng.random() < 0.06:
        # Something was forgotten: a second payment soon after.
        planned.append((at + 20 + 200 * rng.random(), card, amount * (0.3 + rng.random()), country, category, 0))


def arrivals(rng, seconds):
    """Times of a stream that is quietest at four in the morning."""
    at = 0.0
    while at < seconds:
        at += -math.log(1 - rng.random()) * SECONDS_PER_PAYMENT * 0.55
        if rng.random() < 0.55 - 0.45 * math.cos(2 * math.pi * (at / 86_400 - 4 / 24)):
            yield at


def pick(rng, shares):
    rest = rng.random() * sum(shares.values())
    for name, share in shares.items():
        rest -= share
        if rest < 0:
            return name
    return name


# Sensors.
MACHINES = 4
STEPS = 1_500
STEP_SECONDS = 600
# What is wrong, where, from which step on and for how many.
FAULTS = [
    ("bearing", 0, 420, 40),
    ("bearing", 2, 1_010, 40),
    ("leak", 1, 640, 30),
    ("leak", 3, 1_220, 30),
    ("stuck", 2, 300, 36),
    ("stuck", 0, 1_150, 36),
    ("overcurrent", 3, 505, 3),
    ("overcurrent", 1, 905, 3),
    ("overcurrent", 0, 1_390, 3),
    ("overcurrent", 2, 1_440, 3),
]


def sensors():
    """Machines whose sensors follow their speed and their load. Faults:

    - bearing: vibration grows for hours, and the bearing warms.
    - leak: the pressure falls behind the speed. It stays in its usual range: only beside the speed it is strange.
    - stuck: the temperature stands still, at an ordinary value.
    - overcurrent: the current is half as large again, for half an hour.
    """
    rng = random.Random(20_260_106)
    heat = [40.0] * MACHINES
    wander = [0.0] * MACHINES
    stuck_at = [None] * MACHINES
    for step in range(STEPS):
        seconds = step * STEP_SECONDS
        shift = 0.5 - 0.5 * math.cos(2 * math.pi * (seconds / 86_400 - 3 / 24))
        for machine in range(MACHINES):
            faults = {kind: step - begin for kind, on, begin, length in FAULTS if on == machine and 0 <= step - begin < length}
            wander[machine] = 0.95 * wander[machine] + 0.03 * rng.gauss(0, 1)
            load = min(max(0.25 + 0.5 * shift + wander[machine] + 0.02 * machine, 0.05), 1.0)
            rpm = 1_100 + 700 * load + 40 * machine + rng.gauss(0, 12)
            current = 4 + 14 * load + rng.gauss(0, 0.25)
            pressure = 1.2 + 3.4 * (rpm / 1_800) ** 2 + rng.gauss(0, 0.04)
            vibration = 0.6 + 0.9 * (rpm / 1_800) ** 2 + abs(rng.gauss(0, 0.08))
            heat[machine] += 0.15 * (34 + 30 * load + 2 * machine - heat[machine]) + rng.gauss(0, 0.15)
            if "bearing" in faults:
                worn = faults["bearing"] / 40
                vibration += 0.25 + 1.2 * worn
                heat[machine] += 0.5 * worn
            if "leak" in faults:
                pressure -= 0.35 + 0.02 * faults["leak"]
            if "overcurrent" in faults:
                current *= 1.5
            temperature = heat[machine] + rng.gauss(0, 0.1)
            if "stuck" in faults:
                stuck_at[machine] = temperature if faults["stuck"] == 0 else stuck_at[machine]
                temperature = stuck_at[machine]
            row = [f"{rpm:.0f}", f"{load:.3f}", f"{current:.2f}", f"{temperature:.2f}", f"{pressure:.2f}", f"{vibration:.2f}"]
            yield [when(seconds), f"m{machine}", *row, int(bool(faults))]


if __name__ == "__main__":
    main()
