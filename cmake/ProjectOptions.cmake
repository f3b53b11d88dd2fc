# Flags live on interface targets, never in CMAKE_C_FLAGS.
#   project_options  everyone
#   project_strict   production code only: Criterion's macros and generated code cannot live with these
find_program(CCACHE ccache)
if(CCACHE)
        set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(project_options INTERFACE)
target_compile_features(project_options INTERFACE c_std_17)
set(CMAKE_C_EXTENSIONS ON)
target_include_directories(project_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
target_compile_definitions(project_options INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64
        G_LOG_USE_STRUCTURED MOULT_VERSION="${PROJECT_VERSION}")
target_compile_options(project_options INTERFACE -Wall -Wextra -Werror -Wshadow -Wvla -Wundef -Wformat=2
        -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter -fno-common -fstack-protector-strong)
# clang takes a variable that only its clean-up uses (g_autoptr) for an unused one; gcc finds those that are.
target_compile_options(project_options INTERFACE $<$<C_COMPILER_ID:Clang>:-Wno-unused-variable>)
target_link_libraries(project_options INTERFACE PkgConfig::GLIB)
if(MOULT_SANITIZE)
        target_compile_options(project_options INTERFACE -fsanitize=address,undefined
                -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
        target_link_options(project_options INTERFACE -fsanitize=address,undefined)
elseif(MOULT_TSAN)
        target_compile_options(project_options INTERFACE -fsanitize=thread)
        target_link_options(project_options INTERFACE -fsanitize=thread)
elseif(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" OR CMAKE_BUILD_TYPE STREQUAL "Release")
        target_compile_definitions(project_options INTERFACE _FORTIFY_SOURCE=2)
        target_link_options(project_options INTERFACE -Wl,-z,relro,-z,now)
endif()
# Hundreds of test programs are linked, with debug information: gold takes a fifth of the time. What is released is linked by the
# distribution's own.
find_program(GOLD ld.gold)
if(GOLD AND CMAKE_BUILD_TYPE STREQUAL "Debug")
        target_link_options(project_options INTERFACE -fuse-ld=gold)
endif()
if(MOULT_FUZZERS)
        target_compile_options(project_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(MOULT_COVERAGE)
        target_compile_options(project_options INTERFACE --coverage)
        target_link_options(project_options INTERFACE --coverage)
endif()
if(MOULT_FAULT_POINTS)
        target_compile_definitions(project_options INTERFACE MOULT_FAULT_POINTS=1)
endif()

add_library(project_strict INTERFACE)
target_compile_options(project_strict INTERFACE -Wconversion -Wno-sign-conversion -Wwrite-strings)
