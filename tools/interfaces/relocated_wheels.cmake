# The ROS wheels export include folders of the machine that built them, and CMake refuses an imported
# target with a folder that does not exist. Once everything is configured, those folders are dropped.
# Used through -DCMAKE_PROJECT_INCLUDE.
function(condense_drop_missing_include_folders)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(present "")
    foreach(folder IN LISTS folders)
      # generator expressions are decided later and stay as they are
      if(folder MATCHES "\\$<" OR EXISTS "${folder}")
        list(APPEND present "${folder}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${present}")
  endforeach()
endfunction()

cmake_language(DEFER CALL condense_drop_missing_include_folders)
