/* host-service/s3_list.h - what an S3 service answers to ListObjectsV2. Pure. */
#pragma once

#include "host-service/object_store.h"

typedef struct s3_list {
        GPtrArray *entries; /* of struct object_entry; the keys as the service has them */
        char *next;         /* the token that asks for the rest; NULL: this is the end */
} S3List;
void s3_list_clear(struct s3_list *l);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(S3List, s3_list_clear)

/* NULL, or why the answer is none (a static text); *ret is set on success only, and is the caller's. */
const char *s3_list_parse(const char *xml, gsize len, struct s3_list *ret);
