/* shm/manifest_rules.h - what one item of an upgrade file list must look like. Pure: NULL or the reason.
 *
 * Rules that need only the item itself. Those between items (order, uniqueness, parents, hard links, blobs of
 * entries) are in shm/manifest.c. docs/pack-format.md lists both. */
#pragma once

#include "proto/manifest.pb-c.h"
#include "shm/pack_layout.h"

const char *release_refusal(const Moult__Manifest *m);
const char *requirement_refusal(const Moult__Requirement *r);
const char *hook_refusal(const Moult__Hook *h);
const char *restart_unit_refusal(ProtobufCBinaryData unit);
const char *blob_refusal(const Moult__Blob *b, const struct pack_header *header);
/* Of a blob that has one: @file_size is that of the files it is the data of, @end where the trees and blobs
 * before it end. */
const char *tree_refusal(const Moult__Blob *b, uint64_t file_size, uint64_t end,
                         const struct pack_header *header);
const char *entry_refusal(const Moult__Entry *e);
