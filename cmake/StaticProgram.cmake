# moult_link_static(PROGRAM LIBRARY): links a program with LIBRARY and all that it stands on as one static binary, which needs nothing
# of the machine that it runs on but its kernel (docs/decisions/0012).
#
# Debian's libraries are found as shared ones by pkg_check_modules(), whose imported targets hold paths of .so files. So nothing
# of theirs is linked by CMake: the libraries of ours that LIBRARY stands on are collected here, and go into one group with
# what `pkg-config --static` says of each package.

# Adds TARGET, and what it links with: libraries of ours to ret_archives, packages (GLIB, ...) to ret_packages.
function(_moult_collect target ret_archives ret_packages)
        set(archives ${${ret_archives}})
        set(packages ${${ret_packages}})
        get_target_property(type ${target} TYPE)
        if(type STREQUAL "STATIC_LIBRARY")
                list(APPEND archives ${target})
        endif()
        get_target_property(below ${target} INTERFACE_LINK_LIBRARIES)
        foreach(library IN LISTS below)
                string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" library "${library}")
                if(library MATCHES "^PkgConfig::(.*)$")
                        list(APPEND packages ${CMAKE_MATCH_1})
                elseif(TARGET ${library} AND NOT library IN_LIST archives)
                        _moult_collect(${library} archives packages)
                endif()
        endforeach()
        set(${ret_archives} ${archives} PARENT_SCOPE)
        set(${ret_packages} ${packages} PARENT_SCOPE)
endfunction()

function(moult_link_static program library)
        if(MOULT_SANITIZE OR MOULT_TSAN)
                message(FATAL_ERROR "${program} cannot be static: sanitizers are shared libraries. Turn MOULT_STATIC_PROGRAMS off.")
        endif()
        set(archives "")
        set(packages "")
        _moult_collect(${library} archives packages)
        list(REMOVE_DUPLICATES packages)
        set(flags "")
        foreach(package IN LISTS packages)
                list(APPEND flags ${${package}_STATIC_LDFLAGS})
        endforeach()
        # Debian has no libmount.a. Only GIO's list of mounts calls it, which nothing of ours does: --gc-sections leaves it out.
        list(REMOVE_ITEM flags -lmount)
        set(files "")
        foreach(archive IN LISTS archives)
                list(APPEND files $<TARGET_FILE:${archive}>)
        endforeach()

        foreach(kind INCLUDE_DIRECTORIES COMPILE_DEFINITIONS COMPILE_OPTIONS)
                string(TOLOWER ${kind} lower)
                cmake_language(CALL target_${lower} ${program} PRIVATE
                        $<TARGET_PROPERTY:${library},INTERFACE_${kind}> $<TARGET_PROPERTY:project_strict,INTERFACE_${kind}>)
        endforeach()
        target_compile_definitions(${program} PRIVATE MOULT_STATIC_PROGRAM=1)
        target_compile_features(${program} PRIVATE c_std_17)
        # The linker warns of each function that could load a module at run time; static_program.c says why none does.
        target_link_options(${program} PRIVATE -static-pie -Wl,--gc-sections -Wl,--no-warnings -Wl,-z,relro,-z,now)
        target_link_libraries(${program} PRIVATE -Wl,--start-group ${files} ${flags} -Wl,--end-group)
        set_target_properties(${program} PROPERTIES LINK_DEPENDS "${files}")
        add_dependencies(${program} ${archives})
endfunction()
