/* host-service/catalogue/json.c - records as JSON. */
#include "host-service/catalogue/json.h"

#include "host-service/catalogue/push_options.h"

char *json_object_text(JsonObject *o)
{
        g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);

        json_node_take_object(node, o);
        return json_to_string(node, FALSE);
}

void json_object_set_time(JsonObject *o, const char *member, gint64 time_us)
{
        g_autoptr(GDateTime) t = time_us ? g_date_time_new_from_unix_utc(time_us / G_USEC_PER_SEC) : NULL;
        g_autofree char *seconds = t ? g_date_time_format(t, "%Y-%m-%dT%H:%M:%S") : NULL;
        g_autofree char *text =
                seconds ? g_strdup_printf("%s.%06dZ", seconds, (int)(time_us % G_USEC_PER_SEC)) : NULL;

        json_object_set_text(o, member, text);
}

void json_object_set_text(JsonObject *o, const char *member, const char *text)
{
        if (text)
                json_object_set_string_member(o, member, text);
        else
                json_object_set_null_member(o, member);
}

void json_object_set_hex(JsonObject *o, const char *member, const guint8 *data, gsize len)
{
        g_autoptr(GString) s = g_string_new(NULL);

        for (gsize i = 0; i < len; i++)
                g_string_append_printf(s, "%02x", data[i]);
        json_object_set_string_member(o, member, s->str);
}

static void set_json(JsonObject *o, const char *member, const char *text)
{
        JsonNode *node = text ? json_from_string(text, NULL) : NULL;

        json_object_set_member(o, member, node ? node : json_node_new(JSON_NODE_NULL));
}

void json_object_set_error(JsonObject *o, MoultError code, const char *text)
{
        JsonObject *e;

        if (code == MOULT_ERROR_UNSPECIFIED && !text) {
                json_object_set_null_member(o, "error");
                return;
        }
        e = json_object_new();
        json_object_set_string_member(e, "code", moult_error_name(code));
        json_object_set_text(e, "text", text);
        json_object_set_object_member(o, "error", e);
}

JsonObject *vm_record_to_json(const VmRecord *r)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "name", r->name);
        json_object_set_text(o, "qmp", r->qmp);
        json_object_set_text(o, "agent", r->agent);
        json_object_set_text(o, "libvirt", r->libvirt);
        json_object_set_text(o, "domain", r->domain);
        json_object_set_boolean_member(o, "network", r->network);
        if (r->has_pin)
                json_object_set_hex(o, "tls_fingerprint", r->pin, sizeof r->pin);
        else
                json_object_set_null_member(o, "tls_fingerprint");
        json_object_set_boolean_member(o, "join_pending", r->token_hash != NULL);
        json_object_set_time(o, "created", r->created_us);
        json_object_set_time(o, "last_seen", r->last_seen_us);
        json_object_set_text(o, "boot_id", r->boot_id);
        json_object_set_text(o, "hostname", r->hostname);
        json_object_set_text(o, "last_release", r->last_release);
        set_json(o, "labels", r->labels ? r->labels : "{}");
        return o;
}

JsonObject *drift_record_to_json(const struct drift_record *r)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "state", drift_state_name(r->state));
        if (r->state == DRIFT_UNCHECKED)
                json_object_set_null_member(o, "files");
        else
                json_object_set_int_member(o, "files", r->files);
        json_object_set_time(o, "checked", r->checked_us);
        return o;
}

JsonObject *release_record_to_json(const ReleaseRecord *r)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "name", r->name);
        json_object_set_string_member(o, "version", r->version);
        json_object_set_text(o, "description", r->description);
        json_object_set_hex(o, "digest", r->digest, sizeof r->digest);
        json_object_set_hex(o, "key_id", r->key_id, sizeof r->key_id);
        json_object_set_int_member(o, "size", (gint64)r->size);
        json_object_set_int_member(o, "padded_size", (gint64)r->padded_size);
        json_object_set_int_member(o, "entries", (gint64)r->entries);
        json_object_set_int_member(o, "security_floor", (gint64)r->security_floor);
        json_object_set_string_member(o, "file", r->file);
        json_object_set_time(o, "created", r->created_us);
        json_object_set_time(o, "imported", r->imported_us);
        return o;
}

static JsonObject *progress(guint64 done, guint64 total, gint64 started_us, gint64 now_us, gboolean running)
{
        JsonObject *o = json_object_new();
        double seconds =
                started_us && now_us > started_us ? (double)(now_us - started_us) / G_USEC_PER_SEC : 0;
        double rate = seconds > 0 ? (double)done / seconds : 0;

        json_object_set_int_member(o, "bytes_done", (gint64)done);
        json_object_set_int_member(o, "bytes_total", (gint64)total);
        if (total > 0)
                json_object_set_double_member(o, "percent", (double)MIN(done, total) * 100.0 / (double)total);
        else
                json_object_set_null_member(o, "percent");
        json_object_set_int_member(o, "rate_bytes_per_s", (gint64)rate);
        if (running && rate >= 1 && total >= done)
                json_object_set_int_member(o, "eta_s", (gint64)((double)(total - done) / rate));
        else
                json_object_set_null_member(o, "eta_s");
        return o;
}

JsonObject *operation_record_to_json(const OperationRecord *r)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "id", r->id);
        json_object_set_string_member(o, "kind", r->kind);
        json_object_set_string_member(o, "state", operation_state_name(r->state));
        json_object_set_boolean_member(o, "final", operation_state_is_final(r->state));
        json_object_set_boolean_member(o, "cancel_requested", r->cancel_requested);
        json_object_set_text(o, "requested_by", r->guest);
        set_json(o, "request", r->request);
        set_json(o, "result", r->result);
        json_object_set_error(o, r->error, r->text);
        json_object_set_object_member(o, "progress",
                                      progress(r->done, r->total, r->created_us, r->updated_us,
                                               !operation_state_is_final(r->state)));
        json_object_set_time(o, "created", r->created_us);
        json_object_set_time(o, "updated", r->updated_us);
        return o;
}

static const char *source_name(int source)
{
        switch (source) {
        case MOULT__SOURCE_KIND__SOURCE_IVSHMEM:
                return "ivshmem";
        case MOULT__SOURCE_KIND__SOURCE_PMEM:
                return "pmem";
        case MOULT__SOURCE_KIND__SOURCE_TLS:
                return "tls";
        case MOULT__SOURCE_KIND__SOURCE_SERIAL:
                return "virtio-serial";
        case MOULT__SOURCE_KIND__SOURCE_FILE:
                return "file";
        default:
                return NULL;
        }
}

static JsonObject *deltas(const PushRecord *r)
{
        JsonObject *o = json_object_new();

        json_object_set_int_member(o, "files", r->delta_files);
        json_object_set_int_member(o, "bytes", (gint64)r->delta_bytes);
        json_object_set_int_member(o, "saved_bytes", (gint64)r->delta_saved);
        json_object_set_int_member(o, "unsuited", r->delta_unsuited);
        json_object_set_int_member(o, "failed", r->delta_failed);
        json_object_set_text(o, "text", r->delta_text);
        return o;
}

static void set_snapshot(JsonObject *o, const PushRecord *r)
{
        JsonObject *s;

        if (!r->snapshot) {
                json_object_set_null_member(o, "snapshot");
                return;
        }
        s = json_object_new();
        json_object_set_string_member(s, "id", r->snapshot);
        json_object_set_text(s, "name", r->snapshot_name);
        json_object_set_object_member(o, "snapshot", s);
}

JsonObject *push_record_to_json(const PushRecord *r)
{
        JsonObject *o = json_object_new();
        gboolean went_well = r->outcome == PUSH_STATE_DONE;

        json_object_set_string_member(o, "operation", r->operation);
        json_object_set_string_member(o, "vm", r->vm);
        json_object_set_hex(o, "push_id", r->push_id, sizeof r->push_id);
        json_object_set_text(o, "release", r->release_name);
        json_object_set_text(o, "version", r->release_version);
        if (r->release_name)
                json_object_set_hex(o, "digest", r->digest, sizeof r->digest);
        else
                json_object_set_null_member(o, "digest");
        json_object_set_object_member(o, "options", push_options_to_json(&r->options));
        json_object_set_string_member(o, "state", push_state_name(r->state));
        json_object_set_boolean_member(o, "final", push_state_is_final(r->state));
        json_object_set_text(o, "outcome",
                             r->outcome == PUSH_STATE_QUEUED ? NULL : push_state_name(r->outcome));
        json_object_set_error(o, r->error, went_well ? NULL : r->text);
        json_object_set_text(o, "note", went_well ? r->text : NULL);
        json_object_set_object_member(o, "progress",
                                      progress(r->bytes_done, r->bytes_total, r->stage_started_us,
                                               r->updated_us, r->state == PUSH_STATE_STAGE));
        json_object_set_int_member(o, "entries_total", r->entries_total);
        json_object_set_int_member(o, "entries_change", r->entries_change);
        json_object_set_int_member(o, "entries_equal", r->entries_equal);
        json_object_set_int_member(o, "entries_blocked", r->entries_blocked);
        json_object_set_int_member(o, "entries_merged", r->entries_merged);
        json_object_set_int_member(o, "generation", (gint64)r->generation);
        json_object_set_text(o, "transport", source_name(r->source));
        json_object_set_int_member(o, "transport_changes", r->source_changes);
        json_object_set_int_member(o, "staging_us", (gint64)r->staging_us);
        json_object_set_int_member(o, "switch_us", (gint64)r->switch_us);
        json_object_set_int_member(o, "wave", r->wave);
        json_object_set_boolean_member(o, "held_back", r->held_back);
        json_object_set_boolean_member(o, "begun", r->begun);
        json_object_set_object_member(o, "deltas", deltas(r));
        json_object_set_text(o, "hook", r->hook);
        json_object_set_text(o, "hook_output", r->hook_output);
        set_json(o, "stale", r->stale);
        set_snapshot(o, r);
        json_object_set_time(o, "created", r->created_us);
        json_object_set_time(o, "updated", r->updated_us);
        return o;
}

static JsonObject *counts(const struct rollout_counts *n)
{
        JsonObject *o = json_object_new();

        json_object_set_int_member(o, "total", n->total);
        json_object_set_int_member(o, "waiting", n->waiting);
        json_object_set_int_member(o, "running", n->running);
        json_object_set_int_member(o, "done", n->done);
        json_object_set_int_member(o, "skipped", n->skipped);
        json_object_set_int_member(o, "failed", n->failed);
        json_object_set_int_member(o, "rolled_back", n->rolled_back);
        json_object_set_int_member(o, "refused", n->refused);
        json_object_set_int_member(o, "unreachable", n->unreachable);
        json_object_set_int_member(o, "cancelled", n->cancelled);
        return o;
}

JsonObject *rollout_record_to_json(const RolloutRecord *r, const struct rollout_counts *n)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "operation", r->operation);
        json_object_set_string_member(o, "state", rollout_state_name(r->state));
        json_object_set_boolean_member(o, "final", rollout_state_is_final(r->state));
        if (r->wave >= 0)
                json_object_set_int_member(o, "wave", r->wave);
        else
                json_object_set_null_member(o, "wave");
        json_object_set_int_member(o, "waves", r->waves);
        json_object_set_int_member(o, "max_failures", r->max_failures);
        json_object_set_int_member(o, "accepted_failures", r->accepted);
        json_object_set_int_member(o, "pause_ms", r->pause_ms);
        json_object_set_time(o, "next", r->state == ROLLOUT_PAUSING ? r->next_us : 0);
        json_object_set_text(o, "text", r->text);
        json_object_set_text(o, "rollback", r->rollback);
        json_object_set_object_member(o, "counts", counts(n));
        return o;
}

static const char *entry_type_name(Moult__EntryType t)
{
        static const char *const names[] = {"file",        "directory",    "symlink", "hardlink",
                                            "char-device", "block-device", "fifo",    "delete"};

        return (guint)t < G_N_ELEMENTS(names) ? names[t] : "unknown";
}

JsonObject *plan_item_to_json(const PlanItem *i)
{
        JsonObject *o = json_object_new();

        json_object_set_int_member(o, "index", i->index);
        json_object_set_string_member(o, "path", i->path);
        json_object_set_string_member(o, "action", plan_action_name(i->action));
        json_object_set_string_member(o, "type", entry_type_name(i->type));
        json_object_set_text(o, "reason", i->reason);
        json_object_set_text(o, "mount", i->mount);
        json_object_set_text(o, "owner_package", i->owner_package);
        json_object_set_boolean_member(o, "merged", i->merged);
        json_object_set_text(o, "merge", i->merge);
        json_object_set_text(o, "method", i->merged ? push_merge_name(i->method) : NULL);
        json_object_set_int_member(o, "size", (gint64)i->size);
        return o;
}
