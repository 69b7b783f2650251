"""desk.py NOTES: the weather of two cities, and notes that are appended to the file NOTES."""

import sys

import stdio

WEATHER = {"Paris": "18C", "Tokyo": "25C"}


def get_weather(arguments, _meta):
    return f"{arguments['city']}: {WEATHER[arguments['city']]}"


def save_note(arguments, _meta):
    with open(sys.argv[1], "a") as notes:
        notes.write(arguments["text"] + "\n")
    return "ok"


stdio.serve("desk", {
    "get_weather": ({"description": "The weather in a city", "inputSchema": stdio.schema(city="A city")}, get_weather),
    "save_note": ({"description": "Saves a note", "inputSchema": stdio.schema(text="The note")}, save_note),
})
