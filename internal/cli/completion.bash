# bash completion for bantam. It needs nothing but bash.

_bantam() {
	local line=${COMP_LINE:0:COMP_POINT} words current last directive reply
	# The line is read anew: bash splits words at colons, and addresses have some.
	read -r -a words <<<"$line"
	[[ $line == *[[:space:]] || ${#words[@]} -lt 2 ]] && words+=("")
	current=${words[${#words[@]} - 1]}
	COMPREPLY=()
	directive=0
	while IFS= read -r reply; do
		if [[ $reply == :[0-9]* ]]; then
			directive=${reply#:}
			continue
		fi
		reply=${reply%%$'\t'*}
		[[ $reply == "$current"* ]] && COMPREPLY+=("$reply")
	done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
	if ((directive & 16)); then
		compopt -o dirnames +o default
	elif ((directive & 4)); then
		compopt +o default
	fi
	((directive & 2)) && compopt -o nospace
	# What bash holds for the word begins behind the last colon.
	if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
		last=${current%"${current##*:}"}
		COMPREPLY=("${COMPREPLY[@]#"$last"}")
	fi
}

complete -o default -F _bantam bantam
