/* host-service/cli/push_result.c - what became of a push, in plain words and as an exit code. */
#include "host-service/cli/push_result.h"

#include <string.h>

#include "host-service/cli/output.h"
#include "host-service/cli/push_stale.h"
#include "host-service/cli/rollout_print.h"
#include "host-service/cli/snapshot.h"
#include "host-service/cli/store_result.h"
#include "host-service/cli/text.h"

JsonObject *operation_of(JsonNode *answer)
{
        JsonObject *o = answer && JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer) : NULL;
        JsonObject *inner = o ? json_child(o, "operation") : NULL;

        return inner ? inner : o;
}

JsonArray *operation_pushes(JsonNode *answer)
{
        JsonObject *outer = answer && JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer) : NULL;
        JsonArray *pushes = outer ? json_list(outer, "pushes") : NULL;

        return pushes || !outer ? pushes : json_list(operation_of(answer), "pushes");
}

static const struct {
        const char *state, *words;
} phases[] = {
        {"queued", "waiting"},   {"connect", "connecting"}, {"plug", "plugging"},
        {"offer", "offering"},   {"plan", "planning"},      {"stage", "staging"},
        {"commit", "switching"}, {"confirm", "confirming"}, {"abort", "aborting"},
        {"unplug", "finishing"}, {"done", "done"},          {"rolled-back", "rolled back"},
        {"refused", "refused"},  {"failed", "failed"},      {"cancelled", "cancelled"},
        {"skipped", "skipped"},
};

static const char *phase_words(const char *state)
{
        for (unsigned i = 0; i < G_N_ELEMENTS(phases); i++)
                if (!strcmp(phases[i].state, state))
                        return phases[i].words;
        return state;
}

/* Before staging there is nothing to count yet, and what was taken back is not progress. */
static gboolean counts_bytes(const char *state)
{
        static const char *const states[] = {"stage", "commit", "confirm", "done", NULL};

        return g_strv_contains(states, state);
}

void push_show_progress(Progress *p, JsonObject *push)
{
        const char *vm = json_text(push, "vm"), *state = json_text(push, "state");
        gboolean counts = state && counts_bytes(state);
        gint64 done = counts ? json_number(push, "progress.bytes_done") : 0;
        gint64 total = counts ? json_number(push, "progress.bytes_total") : 0;

        if (vm && state)
                progress_update(p, vm, phase_words(state), (uint64_t)MAX(done, 0), (uint64_t)MAX(total, 0));
}

void operation_show_progress(Progress *p, JsonObject *operation)
{
        const char *kind = json_text(operation, "kind");
        gint64 done = json_number(operation, "progress.bytes_done");
        gint64 total = json_number(operation, "progress.bytes_total");

        if (kind && (!strcmp(kind, "release-import") || !strcmp(kind, "store-pull")))
                progress_update(p, "", "importing", (uint64_t)MAX(done, 0), (uint64_t)MAX(total, 0));
        else if (kind && (!strcmp(kind, "release-verify") || !strcmp(kind, "store-verify") ||
                          !strcmp(kind, "store-push")))
                progress_update(p, "", "verifying", (uint64_t)MAX(done, 0), (uint64_t)MAX(total, 0));
}

static gboolean is(const char *text, const char *word)
{
        return text && !strcmp(text, word);
}

ExitCode push_exit_code(JsonObject *push)
{
        const char *state = json_text(push, "state");
        ExitCode of_error = exit_code_of_name(json_text(push, "error.code"));

        if (is(state, "rolled-back"))
                return EXIT_CODE_ROLLED_BACK;
        if (is(state, "cancelled"))
                return EXIT_CODE_CANCELLED;
        if (is(state, "refused")) {
                /* A check hook that failed has changed nothing: refused, not rolled back. */
                gboolean says_more = of_error == EXIT_CODE_UNTRUSTED || of_error == EXIT_CODE_NO_SPACE ||
                                     of_error == EXIT_CODE_CONFLICT || of_error == EXIT_CODE_UNSUPPORTED ||
                                     of_error == EXIT_CODE_CORRUPT;
                /* Of a rollback: there is no such generation. A release's own missing file is a refusal. */
                says_more |= json_flag(push, "options.rollback") && of_error == EXIT_CODE_NOT_FOUND;
                return says_more ? of_error : EXIT_CODE_REFUSED;
        }
        if (is(state, "failed"))
                return of_error != EXIT_CODE_OK ? of_error : EXIT_CODE_INTERNAL;
        return EXIT_CODE_OK;
}

ExitCode operation_exit_code(JsonNode *answer)
{
        JsonObject *o = operation_of(answer);
        JsonArray *pushes = operation_pushes(answer);
        guint n = pushes ? json_array_get_length(pushes) : 0;
        const char *state = o ? json_text(o, "state") : NULL;
        g_autofree ExitCode *codes = g_new0(ExitCode, n + 1);

        for (guint i = 0; i < n; i++) {
                JsonNode *push = json_array_get_element(pushes, i);

                codes[i] = JSON_NODE_HOLDS_OBJECT(push) ? push_exit_code(json_node_get_object(push))
                                                        : EXIT_CODE_INTERNAL;
        }
        ExitCode code = exit_code_combine(codes, n);
        if (o && rollout_of(o) && (code != EXIT_CODE_OK || !is(state, "failed")))
                return rollout_exit_code(o, rollout_of(o), code);
        if (code != EXIT_CODE_OK || is(state, "succeeded"))
                return code;
        if (is(state, "cancelled"))
                return EXIT_CODE_CANCELLED;
        if (is(state, "partial"))
                return EXIT_CODE_PARTIAL;
        code = o ? exit_code_of_name(json_text(o, "error.code")) : EXIT_CODE_INTERNAL;
        return code == EXIT_CODE_OK && is(state, "failed") ? EXIT_CODE_INTERNAL : code;
}

struct step {
        const char *code, *step;
};

static const char *find_step(const struct step *steps, unsigned n, const char *code)
{
        for (unsigned i = 0; i < n; i++)
                if (is(code, steps[i].code))
                        return steps[i].step;
        return NULL;
}

/* A rollback has no plan, and nothing of it is pushed again. */
static char *rollback_step(const char *code, const char *vm)
{
        static const struct step steps[] = {
                {"drift", "'moult rollback --force {vm}' takes it back although files were changed since"},
                {"refused", "'moult history {vm}' lists the generations, and which can be rolled back"},
                {"not-found", "'moult history {vm}' lists the generations, and which can be rolled back"},
                {"timeout",
                 "see whether the VM runs and moult-agent answers ('moult vm show {vm}'), then 'moult "
                 "rollback {vm}' again"},
                {"busy",
                 "another push or a freeze holds the guest; 'moult rollback {vm}' again when it has ended"},
                {"unsupported", "the agent in {vm} is too old for this; upgrade moult-agent first"},
        };
        const char *step = find_step(steps, G_N_ELEMENTS(steps), code);
        g_auto(GStrv) parts =
                g_strsplit(step ? step
                                : "'moult history {vm}' tells what is in place; the guest's log has "
                                  "more (journalctl -u moult-agent)",
                           "{vm}", -1);

        return is(code, "cancelled") ? NULL : g_strjoinv(vm, parts);
}

/* What somebody can do about it, by the error's class. */
static const char *push_step(const char *code, gboolean rolled_back)
{
        static const struct step steps[] = {
                {"untrusted",
                 "sign the release with a key that the guest trusts, or put its .pub into the guest's "
                 "trust directory"},
                {"refused", "the same command with --dry-run lists every path and its reason"},
                {"drift",
                 "--dry-run lists the files that were changed in the guest; --allow-drift replaces them"},
                {"no-space", "make room in the guest, then push again"},
                {"hook", "the hook's output says why; correct the release or the guest, then push again"},
                {"health", "the output says why; correct the release or the guest, then push again"},
                {"timeout",
                 "see whether the VM runs and moult-agent answers ('moult vm show'), then push again"},
                {"busy",
                 "another push or a freeze holds the guest; push again when it has ended ('moult jobs')"},
                {"corrupt", "'moult release verify' tells whether the pack itself is damaged"},
                {"unsupported", "the agent in the guest is too old for this; upgrade moult-agent first"},
                {"io", "the guest's log has more (journalctl -u moult-agent); then push again"},
        };

        const char *step = find_step(steps, G_N_ELEMENTS(steps), code);

        if (step || is(code, "cancelled"))
                return step;
        return rolled_back ? "correct the cause, then push again" : NULL;
}

static void append_release(GString *s, JsonObject *push)
{
        const char *release = json_text(push, "release"), *version = json_text(push, "version");

        if (release)
                g_string_append_printf(s, "%s %s", release, version ? version : "");
        else
                g_string_append(s, "the generation before");
}

static void append_deltas(GString *s, JsonObject *push)
{
        gint64 saved = json_number(push, "deltas.saved_bytes"), files = json_number(push, "deltas.files");
        gint64 failed = json_number(push, "deltas.failed");
        const char *why = json_text(push, "deltas.text");
        g_autofree char *size = text_bytes((uint64_t)MAX(saved, 0));

        if (files > 0)
                g_string_append_printf(
                        s, "  %" G_GINT64_FORMAT " files came as deltas, which saved %s on the way\n", files,
                        size);
        if (failed > 0)
                g_string_append_printf(s,
                                       "  %" G_GINT64_FORMAT
                                       " deltas could not be used, and the whole files were fetched: %s\n",
                                       failed, why ? why : "no reason was given");
}

static void append_numbers(GString *s, JsonObject *push)
{
        gint64 changed = json_number(push, "entries_change"), equal = json_number(push, "entries_equal");
        gint64 bytes = json_number(push, "progress.bytes_total"), staging = json_number(push, "staging_us");
        gint64 switching = json_number(push, "switch_us"), changes = json_number(push, "transport_changes");
        gint64 generation = json_number(push, "generation"), merged = json_number(push, "entries_merged");
        const char *transport = json_text(push, "transport");
        g_autofree char *size = text_bytes((uint64_t)MAX(bytes, 0));
        g_autofree char *stage_time = text_duration_us((uint64_t)MAX(staging, 0));
        g_autofree char *switch_time = text_duration_us((uint64_t)MAX(switching, 0));

        if (changed + equal > 0)
                g_string_append_printf(s,
                                       "  %" G_GINT64_FORMAT " entries changed, %" G_GINT64_FORMAT
                                       " were as they should be\n",
                                       changed, equal);
        if (merged > 0)
                g_string_append_printf(s,
                                       "  %" G_GINT64_FORMAT
                                       " of them where nothing can be written: merged over what is there\n",
                                       merged);
        if (staging > 0 && bytes > 0)
                g_string_append_printf(s, "  staged %s in %s%s%s\n", size, stage_time,
                                       transport ? " over " : "", transport ? transport : "");
        append_deltas(s, push);
        if (changes > 0)
                g_string_append_printf(
                        s, "  the transport was changed %" G_GINT64_FORMAT " times on the way\n", changes);
        if (switching > 0)
                g_string_append_printf(s, "  switched in %s\n", switch_time);
        if (generation > 0 && json_text(push, "release"))
                g_string_append_printf(
                        s, "  generation %" G_GINT64_FORMAT "; 'moult rollback %s' takes it back\n",
                        generation, json_text(push, "vm"));
}

static void append_hook(GString *s, JsonObject *push)
{
        const char *hook = json_text(push, "hook"), *output = json_text(push, "hook_output");
        g_auto(GStrv) lines = g_strsplit(output ? output : "", "\n", -1);

        if (hook && *hook)
                g_string_append_printf(s, "  hook %s%s\n", hook,
                                       output && *output ? " said:" : " said nothing");
        for (unsigned i = 0; hook && *hook && lines[i]; i++)
                if (*lines[i])
                        g_string_append_printf(s, "    | %s\n", lines[i]);
}

/* After a push that went wrong the restore point is worth naming, and how to go back to it. */
static void append_snapshot(GString *s, JsonObject *push, gboolean went_well)
{
        const char *name = json_text(push, "snapshot.name"), *vm = json_text(push, "vm");

        if (!name || !vm)
                return;
        g_string_append_printf(s, "  the snapshot from before it: %s", name);
        if (!went_well)
                g_string_append_printf(s, "; 'moult snapshot rollback %s --to %s' goes back to it", vm, name);
        g_string_append_c(s, '\n');
}

char *push_words(JsonObject *push)
{
        g_autoptr(GString) s = g_string_new(NULL);
        const char *vm = json_text(push, "vm"), *state = json_text(push, "state"),
                   *why = json_text(push, "error.text");
        const char *code = json_text(push, "error.code"), *note = json_text(push, "note");
        gboolean dry_run = json_flag(push, "options.dry_run"), rollback = json_flag(push, "options.rollback");

        g_string_append_printf(s, "%s: ", vm ? vm : "?");
        if (is(state, "done") && dry_run) {
                append_release(s, push);
                g_string_append_printf(s, " would change %" G_GINT64_FORMAT " entries; nothing was changed\n",
                                       json_number(push, "entries_change"));
        } else if (is(state, "done") && note) {
                g_string_append(s, "had ");
                append_release(s, push);
                g_string_append_printf(s, ", but not any more: %s\n", note);
        } else if (is(state, "done")) {
                g_string_append(s, rollback ? "is back at " : "has ");
                append_release(s, push);
                g_string_append(s, "\n");
                append_numbers(s, push);
                append_snapshot(s, push, TRUE);
                push_stale_words(s, push);
        } else {
                const char *what = is(state, "refused") ? why ? "refused" : "refused, nothing was changed"
                                   : is(state, "rolled-back") ? "taken back, the old files are in place"
                                   : is(state, "cancelled")   ? "cancelled"
                                   : is(state, "failed")      ? "failed"
                                                              : phase_words(state ? state : "?");
                g_autofree char *step = rollback ? rollback_step(code, vm ? vm : "VM")
                                                 : g_strdup(push_step(code, is(state, "rolled-back")));

                g_string_append_printf(s, "%s%s%s\n", what, why ? ": " : "", why ? why : "");
                append_hook(s, push);
                append_snapshot(s, push, FALSE);
                push_stale_words(s, push);
                if (step)
                        g_string_append_printf(s, "  what to do: %s\n", step);
        }
        return text_safe_lines(s->str);
}

static const struct column operation_columns[] = {
        {"Job", "id", COLUMN_TEXT},
        {"Kind", "kind", COLUMN_TEXT},
        {"State", "state", COLUMN_TEXT},
        {"Why", "error.text", COLUMN_TEXT},
        {"Created", "created", COLUMN_TIME},
        {"Updated", "updated", COLUMN_TIME},
        {0},
};

/* An operation without VMs that has ended: one line says it. FALSE if we have no words for it. */
static gboolean print_plain_operation(Cli *cli, JsonObject *o)
{
        const char *state = json_text(o, "state"), *kind = json_text(o, "kind"),
                   *why = json_text(o, "error.text");

        store_result_print(cli, o); /* what was found comes before what it comes to */
        snapshot_verify_print(cli, o);
        if (is(state, "failed") && why) {
                g_autofree char *text = text_safe_lines(why);

                fflush(cli->out);
                fprintf(cli->err, "moult: %s\n", text);
                return TRUE;
        }
        if (is(state, "succeeded") && is(kind, "release-verify")) {
                g_autofree char *bytes = text_bytes((uint64_t)MAX(json_number(o, "result.bytes"), 0));

                output_words(cli,
                             "%s %s: the signature is by a trusted key, and every content has its digest "
                             "(%" G_GINT64_FORMAT " files, %s)\n",
                             json_text(o, "result.release"), json_text(o, "result.version"),
                             json_number(o, "result.files"), bytes);
                return TRUE;
        }
        return is(state, "succeeded") && (is(kind, "snapshot-verify") || snapshot_result_print(cli, o) ||
                                          (kind && g_str_has_prefix(kind, "store-")));
}

void operation_print(Cli *cli, JsonNode *answer)
{
        JsonArray *pushes = operation_pushes(answer);
        JsonObject *o = operation_of(answer);

        if (output_machine(cli, answer) || !o)
                return;
        if (rollout_of(o)) {
                rollout_print(cli, rollout_of(o), pushes);
                return;
        }
        if (!pushes || json_array_get_length(pushes) == 0) {
                g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), o);

                if (!print_plain_operation(cli, o))
                        output_object(cli, node, operation_columns, NULL);
                return;
        }
        for (guint i = 0; i < json_array_get_length(pushes); i++) {
                JsonNode *push = json_array_get_element(pushes, i);
                g_autofree char *words =
                        JSON_NODE_HOLDS_OBJECT(push) ? push_words(json_node_get_object(push)) : g_strdup("");

                fputs(words, cli->out);
        }
}
