/* host-service/cli/vm_files.c - asking a VM's agent about its files, through moultd. */
#include "host-service/cli/vm_files.h"

#include "host-service/cli/exit_code.h"
#include "host-service/cli/output.h"

#define TRIES    30u
#define PAUSE_MS 2000u
/* Questions under way. The agent answers as many at a time as it has CPUs, up to 4, and its answers have to
 * come here meanwhile; agents from before that take 4 in all. */
#define WIDTH 4u

struct vm_files {
        Cli *cli;
        const char *vm;
        Progress *progress;
        GMutex lock;         /* protects clients */
        GHashTable *clients; /* GThread * -> Client * */
};

VmFiles *vm_files_new(Cli *cli, const char *vm, Progress *progress)
{
        VmFiles *v = g_new0(VmFiles, 1);

        *v = (VmFiles){.cli = cli, .vm = vm, .progress = progress};
        g_mutex_init(&v->lock);
        v->clients = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)client_free);
        return v;
}

void vm_files_free(VmFiles *v)
{
        if (!v)
                return;
        g_hash_table_unref(v->clients);
        g_mutex_clear(&v->lock);
        g_free(v);
}

const char *vm_files_vm(const VmFiles *v)
{
        return v->vm;
}

Client *vm_files_client(VmFiles *v)
{
        Client *c;

        g_mutex_lock(&v->lock);
        c = g_hash_table_lookup(v->clients, g_thread_self());
        if (!c)
                g_hash_table_insert(v->clients, g_thread_self(), c = client_new(v->cli));
        g_mutex_unlock(&v->lock);
        return c;
}

static Message *ask_once(Client *c, const char *path, const char *question, GError **error)
{
        JsonObject *body = json_object_new();

        json_object_set_string_member(body, "question", question);
        g_autoptr(JsonNode) answer = client_post(c, path, body, NULL, error);
        if (!answer)
                return NULL;
        const char *text =
                JSON_NODE_HOLDS_OBJECT(answer) ? json_text(json_node_get_object(answer), "answer") : NULL;
        if (!text) {
                g_set_error(error, CLI_ERROR, CLI_ERROR_DAEMON,
                            "moultd's answer has no answer of the guest in it");
                return NULL;
        }
        gsize len;
        guchar *data = g_base64_decode(text, &len);
        g_autoptr(GBytes) packed = g_bytes_new_take(data, len);
        return message_unpack(packed, error);
}

/* The guest was away, or busy with another look; it may be back the next time. */
static gboolean may_pass(const GError *error)
{
        return g_error_matches(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_BUSY);
}

static Message *ask(const Message *question, gpointer user, GError **error)
{
        VmFiles *v = user;
        Client *c = vm_files_client(v);
        g_autoptr(GBytes) packed = message_pack(question);
        gsize len;
        const guchar *data = g_bytes_get_data(packed, &len);
        g_autofree char *text = g_base64_encode(data, len);
        g_autofree char *path = client_path("/v1/vms/%s/tree", v->vm);

        for (unsigned tries = 1;; tries++) {
                g_autoptr(GError) own = NULL;
                Message *answer = ask_once(c, path, text, &own);

                if (answer)
                        return answer;
                if (g_error_matches(own, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED))
                        g_prefix_error(
                                &own,
                                "the agent of %s is older than this and cannot be asked for its files; "
                                "upgrade it first: ",
                                v->vm);
                if (tries == TRIES || !may_pass(own)) {
                        g_propagate_error(error, g_steal_pointer(&own));
                        return NULL;
                }
                if (!client_pause(c, PAUSE_MS, error))
                        return NULL;
        }
}

static void show(const char *path, gpointer user)
{
        const struct vm_files *v = user;

        if (v->progress)
                progress_update(v->progress, v->vm, "looking", 0, 0);
}

struct agent_tree_asker vm_files_asker(VmFiles *v)
{
        return (struct agent_tree_asker){.ask = ask, .progress = show, .user = v, .width = WIDTH};
}
