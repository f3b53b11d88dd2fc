/* host-service/cli/output.h - results as a table for people, or as JSON or YAML for programs: one tree, three
 * looks.
 *
 * A command makes (or is given) one JsonNode and says which members people see. JSON and YAML print all of
 * it. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/cli/cli.h"

enum column_kind {
        COLUMN_TEXT,
        COLUMN_BYTES, /* integer -> "1.5 MiB" */
        COLUMN_MS,    /* integer, milliseconds -> "4.2 s" */
        COLUMN_US,
        COLUMN_TIME,    /* integer, Unix seconds -> local time */
        COLUMN_TIME_MS, /* integer, Unix milliseconds -> local time */
        COLUMN_DIGEST,  /* hex -> its first 12 digits */
        COLUMN_COUNT,   /* array -> how many */
        COLUMN_MODE,    /* integer -> octal */
        COLUMN_MAP,     /* object of texts -> "key=value key=value" */
};

struct column {
        const char *title;  /* NULL ends the table */
        const char *member; /* dots go into objects: "error.code" */
        enum column_kind kind;
};

/* @node: an array of objects. @empty: what people read when there is none. */
gboolean output_list(Cli *cli, JsonNode *node, const struct column *columns, const char *empty,
                     GError **error);
/* @node: an object, one line per column; members that are absent or empty are left out. */
gboolean output_object(Cli *cli, JsonNode *node, const struct column *columns, GError **error);
/* Only if the format is JSON or YAML: prints and returns TRUE. */
gboolean output_machine(Cli *cli, JsonNode *node);
/* Plain words, only in table format. */
void output_words(Cli *cli, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The text of one cell; newly allocated, safe for a terminal. */
char *output_cell(JsonObject *row, const struct column *column);
/* The whole node as YAML; ends in a newline. */
char *output_yaml(JsonNode *node);
char *output_json(JsonNode *node);

/* Member access that takes any JSON: NULL, 0 or FALSE where it is absent or of another type. */
JsonNode *json_member(JsonObject *o, const char *dotted);
const char *json_text(JsonObject *o, const char *dotted);
gint64 json_number(JsonObject *o, const char *dotted);
gboolean json_flag(JsonObject *o, const char *dotted);
JsonObject *json_child(JsonObject *o, const char *dotted);
JsonArray *json_list(JsonObject *o, const char *dotted);
