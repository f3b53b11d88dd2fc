# moult_protobuf_c(TARGET file.proto): generates the C of one schema into the build tree as a library.
# Generated code is compiled without our warnings: it is not ours to fix.
find_program(PROTOC_C protoc-c REQUIRED)
function(moult_protobuf_c target proto)
        get_filename_component(name ${proto} NAME_WE)
        file(RELATIVE_PATH dir ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
        set(base ${PROJECT_BINARY_DIR}/${dir}/${name}.pb-c)
        add_custom_command(OUTPUT ${base}.c ${base}.h
                COMMAND ${PROTOC_C} --proto_path=${PROJECT_SOURCE_DIR} --c_out=${PROJECT_BINARY_DIR} ${dir}/${proto}
                DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${proto} VERBATIM)
        add_library(${target} STATIC ${base}.c ${base}.h)
        target_compile_options(${target} PRIVATE -w)
        target_include_directories(${target} PUBLIC ${PROJECT_BINARY_DIR})
        target_link_libraries(${target} PUBLIC PkgConfig::PROTOBUF_C)
endfunction()
