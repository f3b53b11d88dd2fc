/* host-service/hypervisor/backing_files.c - each node of the block layer names the one that it stands on. */
#include "host-service/hypervisor/backing_files.h"

#include "host-service/hypervisor/qmp_message.h"

char **backing_files_of(JsonNode *result)
{
        g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);
        JsonArray *nodes = qmp_array(result);

        if (!nodes)
                return NULL;
        for (guint i = 0; i < json_array_get_length(nodes) && files->len < BACKING_FILES_MAX; i++) {
                const char *file = qmp_string(qmp_object(json_array_get_element(nodes, i)), "backing_file");

                if (file && *file && !g_ptr_array_find_with_equal_func(files, file, g_str_equal, NULL))
                        g_ptr_array_add(files, g_strdup(file));
        }
        g_ptr_array_add(files, NULL);
        return (char **)g_ptr_array_steal(files, NULL);
}
