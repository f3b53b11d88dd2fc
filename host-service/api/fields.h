/* host-service/api/fields.h - what members a request may have, as a table, and the pure check against it.
 *
 * Unknown members are refused: a misspelt "dryrun" must never become a real push. */
#pragma once

#include <json-glib/json-glib.h>

enum field_type {
        FIELD_TEXT,
        FIELD_FLAG,
        FIELD_NUMBER, /* whole, min..max */
        FIELD_TEXTS,  /* array of min..max texts */
        FIELD_FLAG_OR_TEXT,
        FIELD_OBJECTS, /* array of min..max objects, whose members are for another table */
        FIELD_MAP,     /* object of min..max texts; each is checked as "KEY=VALUE" */
};

struct field {
        const char *name; /* NULL ends a table */
        enum field_type type;
        gboolean required;
        gint64 min, max;
        const char *(*refusal)(const char *text); /* each text; NULL: any */
};

/* NULL, or why @body may not be acted on (owned by the caller). @fields may be NULL: no members at all. */
char *fields_refusal(JsonObject *body, const struct field *fields);
/* The same for a query string's values ("true"/"false" and digits). Every value is valid UTF-8 text. */
char *fields_query_refusal(GHashTable *query, const struct field *fields);

/* After the check. */
gint64 fields_query_number(GHashTable *query, const char *name, gint64 fallback);
gboolean fields_query_flag(GHashTable *query, const char *name);
