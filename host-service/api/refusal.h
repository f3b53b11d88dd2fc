/* host-service/api/refusal.h - the content gate for single values of requests: pure, NULL or the reason. */
#pragma once

#include <glib.h>

const char *vm_name_refusal(const char *text);
const char *restore_point_refusal(const char *text); /* the name, id or time of one */
const char *label_key_refusal(const char *text);
const char *label_refusal(const char *text);  /* KEY=VALUE */
const char *labels_refusal(const char *text); /* KEY=VALUE[,KEY=VALUE]... */
const char *release_name_refusal(const char *text);
const char *release_version_refusal(const char *text);
const char *release_spec_refusal(const char *text); /* NAME or NAME=VERSION */
const char *operation_id_refusal(const char *text);
const char *operation_state_refusal(const char *text);
const char *operation_kind_refusal(const char *text);
const char *transport_refusal(const char *text);
const char *sync_mode_refusal(const char *text);
const char *merge_method_refusal(const char *text);
const char *socket_path_refusal(const char *text); /* absolute, and a socket address can hold it */
/* A QEMU driver's, and nothing in it that runs a program of the caller's choice. */
const char *libvirt_uri_refusal(const char *text);
const char *domain_refusal(const char *text); /* name or UUID */
const char *file_path_refusal(const char *text);
#define JOIN_TOKEN_PREFIX "moult1:" /* of the whole token; a request gives only the secret in it */
const char *join_token_refusal(const char *text);
const char *scope_refusal(const char *text);
const char *idempotency_key_refusal(const char *text);

/* The whole text, before a parser sees it: only what JSON allows outside of strings, and not nested deeper
 * than 16 levels: json-glib recurses for each, and takes comments and more that JSON has not. */
const char *json_text_refusal(const char *text, gsize len);
