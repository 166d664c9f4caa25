# cmake -DOUT=descriptors.c "-DFILES=a.desc;b.desc" -P embed.cmake: the bytes of these files as the tables of descriptors.h.
set(arrays "")
set(table "")
foreach(path ${FILES})
    get_filename_component(name ${path} NAME_WE)
    file(READ ${path} bytes HEX)
    string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
    string(APPEND arrays "static const uint8_t ${name}[] = {${bytes}};\n")
    string(APPEND table "    {\"${name}.proto\", ${name}, sizeof ${name}},\n")
endforeach()
file(WRITE ${OUT} "#include \"proto/descriptors.h\"\n\n${arrays}\nconst Descriptor descriptors[] = {\n${table}};\n"
    "const size_t descriptor_count = sizeof descriptors / sizeof *descriptors;\n")
