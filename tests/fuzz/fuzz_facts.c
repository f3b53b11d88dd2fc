/* tests/fuzz/fuzz_facts.c - what a guest tells of itself, judged and shown: a message as it comes from the
 * wire, through the content gate.
 *
 * Also checked: each check answers exactly once, says something if and only if it found something, and all of
 * it can be shown to people and programs. */
#include <stdint.h>
#include <string.h>

#include "host-service/api/doctor_guest.h"
#include "proto/limits.h"
#include "proto/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_shown(JsonObject *o)
{
        g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
        g_autofree char *text = NULL;

        json_node_take_object(node, o);
        text = json_to_string(node, FALSE);
        g_assert(g_utf8_validate(text, -1, NULL));
}

static void judge(const Moult__Facts *told)
{
        struct guest_facts f = {.told = told, .asked_us = 1700000000000000, .answered_us = 1700000000100000};
        struct doctor_release *r = g_new0(struct doctor_release, 1);
        g_autoptr(GPtrArray) findings = NULL;

        f.releases = doctor_releases_new();
        r->name = g_strdup("app 2");
        g_ptr_array_add(f.releases, r);
        findings = doctor_judge_guest(&f);
        g_assert(findings->len > 1);
        for (guint i = 0; i < findings->len; i++) {
                const DoctorFinding *one = findings->pdata[i];

                g_assert((one->severity == DOCTOR_OK) == (*one->found == '\0'));
                g_assert(g_utf8_validate(one->found, -1, NULL) && !strchr(one->found, '\x1b'));
        }
        expect_shown(doctor_guest_json(&f));
        guest_facts_clear(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autoptr(GBytes) payload = NULL;
        g_autoptr(Message) m = NULL;

        if (size > LIMIT_FRAME_PAYLOAD)
                return 0;
        payload = g_bytes_new_static(data, size);
        m = message_unpack(payload, NULL);
        if (m && m->body_case == MOULT__MESSAGE__BODY_FACTS)
                judge(m->facts);
        return 0;
}
