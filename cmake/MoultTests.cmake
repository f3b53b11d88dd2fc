# Tests as CTest sees them. Labels: unit, fuzz, threads.
pkg_check_modules(CRITERION REQUIRED IMPORTED_TARGET criterion)

# moult_unit_test(NAME LINK libs...): tests/unit/NAME.c, a Criterion program.
function(moult_unit_test name)
        cmake_parse_arguments(T "" "" "LINK" ${ARGN})
        add_executable(${name} unit/${name}.c)
        target_link_libraries(${name} PRIVATE ${T_LINK} project_options PkgConfig::CRITERION)
        # Criterion's arena wants addresses that ThreadSanitizer keeps for itself: built, but not run there.
        if(MOULT_TSAN)
                return()
        endif()
        # The tests of a program share the CPUs with the other programs that ctest -j starts.
        add_test(NAME unit.${name} COMMAND ${name} --jobs 2)
        # The same as in tests/run.sh: what GLib calls critical is a fault of ours.
        set_tests_properties(unit.${name} PROPERTIES LABELS unit TIMEOUT 120 ENVIRONMENT "G_DEBUG=fatal-criticals")
endfunction()

# moult_fuzz_target(NAME LINK libs...): tests/fuzz/fuzz_NAME.c. With MOULT_FUZZERS a libFuzzer program; else a program
# that replays tests/fuzz/corpus/NAME. Either way CTest replays the corpus.
function(moult_fuzz_target name)
        cmake_parse_arguments(T "" "" "LINK" ${ARGN})
        set(corpus ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${name})
        if(MOULT_FUZZERS)
                add_executable(fuzz_${name} fuzz/fuzz_${name}.c)
                target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
                set(arguments -runs=0)
        else()
                add_executable(fuzz_${name} fuzz/fuzz_${name}.c fuzz/replay.c)
        endif()
        target_link_libraries(fuzz_${name} PRIVATE ${T_LINK} project_options)
        if(NOT TARGET fuzz_targets)
                add_custom_target(fuzz_targets)
        endif()
        add_dependencies(fuzz_targets fuzz_${name})
        add_test(NAME fuzz.${name} COMMAND fuzz_${name} ${arguments} ${corpus})
        set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT 120)
endfunction()

# moult_thread_test(NAME LINK libs...): tests/threads/threads_NAME.c, a plain program that ends with 0. What several
# threads share is tested by these, since only they run under ThreadSanitizer (preset tsan); they run everywhere else too.
function(moult_thread_test name)
        cmake_parse_arguments(T "" "" "LINK" ${ARGN})
        add_executable(threads_${name} threads/threads_${name}.c)
        if(NOT TARGET thread_tests)
                add_custom_target(thread_tests)
        endif()
        add_dependencies(thread_tests threads_${name})
        if(MOULT_TSAN)
                target_sources(threads_${name} PRIVATE support/tsan_glib.c)
        endif()
        target_link_libraries(threads_${name} PRIVATE ${T_LINK} project_options)
        add_test(NAME threads.${name} COMMAND threads_${name})
        # GLib's allocator for small objects hands memory from thread to thread in an order that ThreadSanitizer does not see.
        set_tests_properties(threads.${name} PROPERTIES LABELS threads TIMEOUT 300 ENVIRONMENT G_SLICE=always-malloc)
endfunction()
