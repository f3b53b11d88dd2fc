#!/usr/bin/env python3
"""Every event that the code logs has a row in docs/events.md with its level, and every row is logged somewhere."""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("common", "proto", "shm", "fuse-overlay", "guest-agent", "host-service")
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|/\*.*?\*/|[(){},]|[^"(){},/]+|/', re.DOTALL)


def arguments(text, start):
    """The arguments of the call whose '(' ends at @start, split at its own commas."""
    parts, depth = [""], 1
    for token in TOKEN.finditer(text, start):
        word = token.group()
        if word in "({":
            depth += 1
        elif word in ")}":
            depth -= 1
            if depth == 0:
                return [p.strip() for p in parts]
        if word == "," and depth == 1:
            parts.append("")
        elif not word.startswith("/*"):
            parts[-1] += word
    raise ValueError("a call without an end")


def logged():
    """id -> levels, of all calls of event_log()."""
    table = {}
    for path in sorted(p for folder in FOLDERS for p in (TOP / folder).rglob("*.c")):
        if path == TOP / "common/events.c":
            continue
        text = path.read_text()
        for call in re.finditer(r"\bevent_log\(", text):
            level, event_id = arguments(text, call.end())[:2]
            ids = re.findall(r'"([a-z0-9-]+)"', event_id)
            if not ids:
                sys.exit(f"{path.relative_to(TOP)}: event_log() with an id that is no literal: {event_id}")
            for i in ids:
                table.setdefault(i, set()).update(w.lower() for w in re.findall(r"EVENT_([A-Z]+)", level))
    return table


def documented():
    table = {}
    for line in (TOP / "docs/events.md").read_text().splitlines():
        if line.startswith("| `"):
            ids, levels = line.split("|")[1:3]
            for i in re.findall(r"`([a-z0-9-]+)`", ids):
                if i in table:
                    sys.exit(f"docs/events.md has {i} twice")
                table[i] = set(re.findall(r"[a-z]+", levels))
    return table


code, text = logged(), documented()
bad = [f"docs/events.md lacks {i}" for i in sorted(code.keys() - text.keys())]
bad += [f"docs/events.md has {i}, which nothing logs" for i in sorted(text.keys() - code.keys())]
# Which of two levels belongs to which of two ids of one call is not looked at.
bad += [f"docs/events.md has {i} at {', '.join(text[i])}, the code at {', '.join(code[i])}"
        for i in sorted(code.keys() & text.keys()) if not text[i] <= code[i]]
if not code or bad:
    sys.exit("\n".join(bad) or "no event was found")
